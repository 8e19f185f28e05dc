// rejected: the level of turn 0 is 4
#include <cstdio>
int main() {
    std::puts("4 0");
    for (int t = 1; t < 500; t++) std::puts("-1");
}
