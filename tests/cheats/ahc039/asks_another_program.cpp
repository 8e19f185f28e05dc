// rejected: ends|no polygon
#include <cstdio>
#include <cstdlib>
int main() { std::system("echo 4 0 0 9 0 9 9 0 9; yes -- -1 | head -500"); }
