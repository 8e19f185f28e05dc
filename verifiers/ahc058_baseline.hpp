// AHC058 baseline: each turn buys the affordable machine of the greatest worth, or nothing.
// Whoever includes it defines `double worth(double gain, double cost, double left, int level)`.
#include <cmath>
#include <cstdio>
#include <vector>

// gain: apples that one unit of strength brings until the end; cost: apples it costs; left: turns.
double worth(double gain, double cost, double left, int level);

int main() {
    int ids, levels, turns;
    long long apples;
    if (std::scanf("%d %d %d %lld", &ids, &levels, &turns, &apples) != 4) return 1;
    std::vector<long long> power(ids);
    for (auto& a : power) if (std::scanf("%lld", &a) != 1) return 1;
    using Table = std::vector<std::vector<long long>>;
    Table cost(levels, std::vector<long long>(ids));
    for (auto& row : cost) for (auto& c : row) if (std::scanf("%lld", &c) != 1) return 1;
    Table count(levels, std::vector<long long>(ids, 1)), strength(levels, std::vector<long long>(ids));
    for (int turn = 0; turn < turns; turn++) {
        const double left = turns - turn;
        int best_level = -1, best_id = -1;
        double best = 0;
        for (int id = 0; id < ids; id++) {
            // One more of level 0 earns `power` a turn; of level i, what its products earn later.
            double gain = 1, later = 1;
            for (int level = 0; level < levels; level++) {
                later *= (left - level) / (level + 1);  // binomial(left, level + 1)
                if (level > 0) gain *= strength[level - 1][id];
                const double price = double(cost[level][id]) * (strength[level][id] + 1);
                const double brings = gain * count[level][id] * power[id] * later;
                if (price > double(apples) || brings <= price) continue;
                const double value = worth(brings, price, left, level);
                if (value > best) best = value, best_level = level, best_id = id;
            }
        }
        if (best_level < 0) {
            std::puts("-1");
        } else {
            apples -= cost[best_level][best_id] * (strength[best_level][best_id] + 1);
            strength[best_level][best_id]++;
            std::printf("%d %d\n", best_level, best_id);
        }
        for (int id = 0; id < ids; id++) apples += power[id] * count[0][id] * strength[0][id];
        for (int level = 1; level < levels; level++)
            for (int id = 0; id < ids; id++)
                count[level - 1][id] += count[level][id] * strength[level][id];
    }
}
