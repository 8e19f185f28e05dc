// rejected: follows -1
#include <cstdio>
int main() {
    std::puts("-1 0");
    for (int t = 1; t < 500; t++) std::puts("-1");
}
