// rejected: 'nan' is not a number
#include <cstdio>
int main() { std::printf("4\nnan 0\n9 0\n9 9\nnan 9\n"); }
