// rejected: ends|no polygon
#include <cstdio>
#include <unistd.h>
// Leaves the work to a child whose time nobody would count; there is no child.
int main() { if (fork() == 0) { for (int t = 0; t < 500; t++) std::puts("-1"); } }
