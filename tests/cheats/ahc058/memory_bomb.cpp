// rejected: bad_alloc|memory
#include <cstdio>
#include <cstring>
#include <vector>
int main() {
    for (int t = 0; t < 500; t++) std::puts("-1");
    std::vector<std::vector<char>> all;
    for (;;) all.emplace_back(64 << 20, 1);
}
