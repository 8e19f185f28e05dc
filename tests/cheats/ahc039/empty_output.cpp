// rejected: holds no polygon
int main() {}
