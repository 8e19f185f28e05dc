// rejected: exited with status 1
#include <cstdio>
int main() { for (int t = 0; t < 500; t++) std::puts("-1"); return 1; }
