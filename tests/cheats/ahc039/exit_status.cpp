// rejected: exited with status 1
#include <cstdio>
int main() { std::puts("4\n0 0\n9 0\n9 9\n0 9"); return 1; }
