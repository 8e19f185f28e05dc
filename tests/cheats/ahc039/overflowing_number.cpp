// rejected: '18446744073709551616' is not a number
#include <cstdio>
int main() { std::printf("4\n18446744073709551616 0\n9 0\n9 9\n0 9\n"); }
