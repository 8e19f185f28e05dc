// rejected: bad_alloc|memory
#include <cstdio>
#include <cstring>
#include <vector>
int main() {
    std::puts("4\n0 0\n9 0\n9 9\n0 9");
    std::vector<std::vector<char>> all;
    for (;;) all.emplace_back(64 << 20, 1);
}
