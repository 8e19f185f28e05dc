// rejected: ends|no polygon
#include <cstdio>
#include <unistd.h>
// Leaves the work to a child whose time nobody would count; there is no child.
int main() { if (fork() == 0) { std::puts("4\n0 0\n9 0\n9 9\n0 9"); } }
