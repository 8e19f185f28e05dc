// rejected: compile error
#include <cstdio>
int main() { for (int t = 0; t < 500; t++) std::puts("-1"); return undefined_name; }
