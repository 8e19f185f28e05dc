// rejected: level of turn 0 is 4294967296
#include <cstdio>
int main() {
    std::puts("4294967296 0");
    for (int t = 1; t < 500; t++) std::puts("-1");
}
