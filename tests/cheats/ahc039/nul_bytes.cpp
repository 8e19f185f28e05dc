// rejected: is not a number
#include <cstdio>
#include <cstring>
int main() { std::fwrite("4\n0 0\n9 0\n9 9\n0\0 9\n", 1, 21, stdout); }
