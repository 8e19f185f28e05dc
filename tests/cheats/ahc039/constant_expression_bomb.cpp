// rejected: compile error|compilation
constexpr long f(long n) { return n < 2 ? n : f(n - 1) + f(n - 2); }
static_assert(f(60) > 0);
int main() {}
