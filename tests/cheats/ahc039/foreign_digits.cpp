// rejected: is not a number
#include <cstdio>
int main() { std::puts("4\n\u0660 0\n9 0\n9 9\n0 9"); }
