// rejected: ends before turn 0
int main() {}
