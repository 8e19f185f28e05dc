// rejected: no main
#include <cstdio>
void start() { for (int t = 0; t < 500; t++) std::puts("-1"); }
