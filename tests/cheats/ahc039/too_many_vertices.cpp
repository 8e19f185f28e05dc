// rejected: number of vertices is 1001
#include <cstdio>
int main() {
    std::puts("1001");
    for (int i = 0; i < 1001; i++) std::printf("%d 0\n", i);
}
