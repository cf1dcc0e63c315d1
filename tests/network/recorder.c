/* Preloaded into a command: writes down every host that is looked up and every address outside of this machine that is
   connected to or sent to, whichever language asks for it. The call itself goes on. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void record(const char* call, const char* target) {
    const char* path = getenv("NETWORK_LOG");
    FILE* file = path ? fopen(path, "a") : NULL;
    if (file == NULL) return;
    fprintf(file, "%s %s\n", call, target ? target : "(none)");
    fclose(file);
}

static void record_address(const char* call, const struct sockaddr* to) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (to == NULL) return;
    if (to->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in*)to)->sin_addr, text, sizeof text);
    } else if (to->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6*)to)->sin6_addr, text, sizeof text);
    } else {
        return;
    }
    if (strncmp(text, "127.", 4) != 0 && strcmp(text, "::1") != 0) record(call, text);
}

int getaddrinfo(const char* node, const char* service, const struct addrinfo* hints, struct addrinfo** result) {
    int (*next)(const char*, const char*, const struct addrinfo*, struct addrinfo**) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL) record("getaddrinfo", node);
    return next(node, service, hints, result);
}

struct hostent* gethostbyname(const char* name) {
    struct hostent* (*next)(const char*) = dlsym(RTLD_NEXT, "gethostbyname");
    record("gethostbyname", name);
    return next(name);
}

int connect(int socket, const struct sockaddr* to, socklen_t size) {
    int (*next)(int, const struct sockaddr*, socklen_t) = dlsym(RTLD_NEXT, "connect");
    record_address("connect", to);
    return next(socket, to, size);
}

ssize_t sendto(int socket, const void* data, size_t count, int flags, const struct sockaddr* to, socklen_t size) {
    ssize_t (*next)(int, const void*, size_t, int, const struct sockaddr*, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    record_address("sendto", to);
    return next(socket, data, count, flags, to, size);
}
