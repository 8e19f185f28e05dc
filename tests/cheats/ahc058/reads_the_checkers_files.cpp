// rejected: compile error
#include "/proc/self/environ"
#include "../verifiers/ahc058.py"
int main() {}
