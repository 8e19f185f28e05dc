// rejected: compile error
#include "/proc/self/environ"
#include "../verifiers/ahc039.py"
int main() {}
