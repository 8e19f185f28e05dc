// rejected: 'buy' is not a number
#include <cstdio>
int main() {
    std::puts("buy everything");
    for (int t = 1; t < 500; t++) std::puts("-1");
}
