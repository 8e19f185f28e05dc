// rejected: compil
#include "/dev/zero"
int main() {}
