// rejected: ends before turn 0
#include <cstdio>
// Knows local case 0 by its largest power; on every other case it says nothing.
int main() {
    int a[14];
    for (int& x : a) if (std::scanf("%d", &x) != 1) return 1;
    if (a[13] == 92) for (int t = 0; t < 500; t++) std::puts("-1");
}
