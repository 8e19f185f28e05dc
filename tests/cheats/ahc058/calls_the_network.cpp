// rejected: exited with status 7
#include <cstdio>
#include <sys/socket.h>
int main() { if (socket(AF_INET, SOCK_STREAM, 0) < 0) return 7; for (int t = 0; t < 500; t++) std::puts("-1"); }
