// AHC039 baseline: the best chain of column strips on a grid, found by dynamic programming.
// Whoever includes it defines `double fine(int cells)`: what a step between the ends of two
// neighbouring strips costs, in fish, by its height in grid cells.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

double fine(int cells);

constexpr int G = 32, SIDE = 100000 / G + 1;  // grid cells along a side, and their size
struct Strip { int low, high; };
using Points = std::vector<std::pair<int, int>>;

int line(int cell) { return std::min(100000, cell * SIDE); }

// The outline: along the lower ends to the right, back along the upper ends.
Points outline(int first, const std::vector<Strip>& chain) {
    Points p;
    const int n = chain.size();
    auto add = [&](int y, int from, int to) {
        if (!p.empty() && p.back().second == y) p.pop_back();
        else p.push_back({line(first + from), y});
        p.push_back({line(first + to), y});
    };
    for (int i = 0; i < n; i++) add(line(chain[i].low), i, i + 1);
    for (int i = n - 1; i >= 0; i--) add(line(chain[i].high + 1) - 1, i + 1, i);
    return p;
}

long long length(const Points& p) {
    long long sum = 0;
    for (size_t i = 0; i < p.size(); i++) {
        const auto& a = p[i];
        const auto& b = p[(i + 1) % p.size()];
        sum += std::abs(a.first - b.first) + std::abs(a.second - b.second);
    }
    return sum;
}

// The best chain when a step of k cells costs `scale * fine(k)`.
Points best_chain(const std::vector<int>& fish, double scale) {
    std::vector<Strip> strips;
    for (int low = 0; low < G; low++)
        for (int high = low; high < G; high++) strips.push_back({low, high});
    const int n = strips.size();
    double step[G];
    for (int k = 0; k < G; k++) step[k] = k == 0 ? 0 : scale * fine(k);
    std::vector<double> value(n), before(n);
    std::vector<std::vector<int>> from(G, std::vector<int>(n, -1));
    double best = -1e18;
    int best_column = 0, best_strip = 0;
    for (int x = 0; x < G; x++) {
        std::swap(value, before);
        for (int i = 0; i < n; i++) {
            const Strip s = strips[i];
            double gain = 0;
            if (x > 0)
                for (int j = 0; j < n; j++) {
                    const Strip t = strips[j];
                    if (t.low > s.high || t.high < s.low) continue;
                    const double total = before[j] - step[std::abs(s.low - t.low)]
                                         - step[std::abs(s.high - t.high)];
                    if (total > gain) gain = total, from[x][i] = j;
                }
            const int* column = &fish[x * (G + 1)];
            value[i] = gain + column[s.high + 1] - column[s.low];
            if (value[i] > best) best = value[i], best_column = x, best_strip = i;
        }
    }
    std::vector<Strip> chain;
    int x = best_column;
    for (int i = best_strip; i >= 0; i = from[x--][i]) chain.push_back(strips[i]);
    std::reverse(chain.begin(), chain.end());
    return outline(best_column + 1 - int(chain.size()), chain);
}

int main() {
    int n = 0;
    if (std::scanf("%d", &n) != 1) return 1;
    std::vector<int> fish(G * (G + 1));  // per column, sums of the cells below
    for (int i = 0; i < 2 * n; i++) {
        int x, y;
        if (std::scanf("%d %d", &x, &y) != 2) return 1;
        fish[x / SIDE * (G + 1) + y / SIDE + 1] += i < n ? 1 : -1;
    }
    for (int x = 0; x < G; x++)
        for (int y = 0; y < G; y++) fish[x * (G + 1) + y + 1] += fish[x * (G + 1) + y];
    Points p;
    double scale = 1;
    do {  // steps get dearer until the outline is short enough
        p = best_chain(fish, scale);
        scale *= 2;
    } while (length(p) > 400000 && scale < 100);
    std::printf("%d\n", int(p.size()));
    for (const auto& [x, y] : p) std::printf("%d %d\n", x, y);
}
