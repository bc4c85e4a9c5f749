// An echo of frames behind a 4-byte length, on one epoll: what the kernel leaves. It ends when its standard input does.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FRAME (4u << 20)
#define CHUNK (256u << 10)

// what has come and is no whole frame yet, and what the kernel did not take yet
struct client {
  int fd;
  uint8_t *in, *out;
  size_t in_length, in_room, out_at, out_length, out_room;
};

static int poller;
static uint8_t shared[CHUNK];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void append(uint8_t **bytes, size_t *room, size_t *length, const uint8_t *data, size_t size) {
  if (*length + size > *room) {
    *room = (*length + size) * 2;
    *bytes = realloc(*bytes, *room);
    if (*bytes == NULL) fail("realloc");
  }
  memcpy(*bytes + *length, data, size);
  *length += size;
}

static void close_client(struct client *c) {
  close(c->fd);
  free(c->in);
  free(c->out);
  free(c);
}

static void watch(struct client *c, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

// -1 when the connection is gone
static int flush(struct client *c) {
  while (c->out_at < c->out_length) {
    ssize_t sent = send(c->fd, c->out + c->out_at, c->out_length - c->out_at, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    c->out_at += (size_t)sent;
  }
  c->out_at = c->out_length = 0;
  watch(c, EPOLLIN);
  return 0;
}

static int reply(struct client *c, const uint8_t *data, size_t size) {
  ssize_t sent = c->out_length > 0 ? 0 : send(c->fd, data, size, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return -1;
  if (sent < 0) sent = 0;
  if ((size_t)sent == size) return 0;
  append(&c->out, &c->out_room, &c->out_length, data + sent, size - (size_t)sent);
  // nothing is read while the peer takes nothing
  watch(c, EPOLLOUT);
  return 0;
}

// the bytes of whole frames at the start, SIZE_MAX when one is too large
static size_t whole(const uint8_t *data, size_t length) {
  size_t at = 0;
  while (length - at >= 4) {
    uint32_t size;
    memcpy(&size, data + at, 4);
    size = ntohl(size);
    if (size > MAX_FRAME) return SIZE_MAX;
    if (length - at - 4 < size) break;
    at += 4 + size;
  }
  return at;
}

static int receive(struct client *c) {
  ssize_t got = recv(c->fd, shared, CHUNK, 0);
  if (got < 0) return errno == EAGAIN ? 0 : -1;
  if (got == 0) return -1;
  const uint8_t *data = shared;
  size_t length = (size_t)got;
  int held = c->in_length > 0;
  if (held) {
    append(&c->in, &c->in_room, &c->in_length, data, length);
    data = c->in;
    length = c->in_length;
  }
  size_t done = whole(data, length);
  if (done == SIZE_MAX) return -1;
  if (done > 0 && reply(c, data, done) < 0) return -1;
  if (held) {
    memmove(c->in, c->in + done, length - done);
    c->in_length = length - done;
  } else if (done < length) append(&c->in, &c->in_room, &c->in_length, data + done, length - done);
  return 0;
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL) fail("calloc");
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
  }
}

int main(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 511) < 0) fail("listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  poller = epoll_create1(0);
  struct epoll_event events[512];
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  event = (struct epoll_event){.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  printf("listening tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int count = epoll_wait(poller, events, 512, -1);
    for (int i = 0; i < count; i++) {
      void *of = events[i].data.ptr;
      if (of == NULL) return 0;
      if (of == &listener) {
        accept_all(listener);
        continue;
      }
      struct client *c = of;
      if (((events[i].events & EPOLLOUT) ? flush(c) : receive(c)) < 0) close_client(c);
    }
  }
}
