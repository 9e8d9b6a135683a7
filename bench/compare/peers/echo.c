/* The machine's limit: both ends of an echo in C on epoll, nothing else.
 *
 *     echo serve PORT
 *     echo client PORT SIZE SECONDS
 *
 * The client waits for each reply before it sends again. It prints the calls it
 * made, the seconds they took, its own processor seconds, and the 50th, 99th and
 * 99.9th percentile of single calls in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SCRATCH = 1 << 16, EVENTS = 64, TIMED_MAX = 1 << 20 };

static char scratch[SCRATCH];
static double timed[TIMED_MAX];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now(void) { return read_clock(CLOCK_MONOTONIC); }

static void watch(int poll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void write_all(int fd, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(fd, scratch + done, size - done);
        if (wrote <= 0) return;
        done += (size_t)wrote;
    }
}

static void serve(struct sockaddr_in address) {
    int one = 1, door = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(door, 64) < 0) die("listen");
    watch(poll, door);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == door) {
                int peer = accept(door, NULL, NULL);
                no_delay(peer);
                watch(poll, peer);
                continue;
            }
            ssize_t got = read(fd, scratch, sizeof scratch);
            if (got <= 0) close(fd);
            else write_all(fd, (size_t)got);
        }
    }
}

static void call(int poll, int fd, size_t size) {
    struct epoll_event event;
    write_all(fd, size);
    for (size_t done = 0; done < size;) {
        epoll_wait(poll, &event, 1, -1);
        ssize_t got = read(fd, scratch, sizeof scratch);
        if (got <= 0) die("read");
        done += (size_t)got;
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double share_of(long count, double share) {
    return timed[(long)((double)(count - 1) * share)] * 1e6;
}

static void client(struct sockaddr_in address, size_t size, double seconds) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
    no_delay(fd);
    watch(poll, fd);
    for (double end = now() + seconds * 0.25; now() < end;) call(poll, fd, size);

    long calls = 0;
    double start = now(), used = read_clock(CLOCK_PROCESS_CPUTIME_ID), end = start + seconds;
    for (; now() < end; calls++) call(poll, fd, size);
    double took = now() - start;
    used = read_clock(CLOCK_PROCESS_CPUTIME_ID) - used;

    long count = 0;
    for (double begun = now(), stop = begun + seconds * 0.25; count < TIMED_MAX && begun < stop;) {
        call(poll, fd, size);
        double done = now();
        timed[count++] = done - begun;
        begun = done;
    }
    qsort(timed, (size_t)count, sizeof *timed, by_size);
    printf("%ld %.9f %.9f %.3f %.3f %.3f\n", calls, took, used, share_of(count, 0.5),
           share_of(count, 0.99), share_of(count, 0.999));
}

int main(int count, char **words) {
    if (count < 3) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[2]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (strcmp(words[1], "serve") == 0) serve(address);
    if (count < 5) return 2;
    size_t size = (size_t)atoi(words[3]);
    if (size == 0 || size > SCRATCH) return 2;
    client(address, size, atof(words[4]));
    return 0;
}
