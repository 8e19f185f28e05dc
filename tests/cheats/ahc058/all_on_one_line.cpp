// rejected: follows -1
#include <cstdio>
int main() { for (int t = 0; t < 500; t++) std::printf("-1 "); }
