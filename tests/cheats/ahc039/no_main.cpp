// rejected: no main
#include <cstdio>
void start() { std::puts("4\n0 0\n9 0\n9 9\n0 9"); }
