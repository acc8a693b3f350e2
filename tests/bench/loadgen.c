// Load generator for OpenAI-compatible gateways: closed loop (-c) or open loop (-R), unary or SSE (-s).
//   cc -O2 -o loadgen loadgen.c
//   ./loadgen -p 17900 -c 64 -d 10 -m mock                       unary
//   ./loadgen -p 17900 -c 200 -d 15 -s -m mock-50c-10ms          streams
//   -K file: one API key a line, taken in turn by one request after the other
// One JSON line on stdout. Bounded by -d seconds (and -n requests); a request older than -T s is an error.
// unary: latency = send -> last byte.   stream: ttfc = send -> first content chunk, and for EVERY content chunk
// the time since the upstream wrote it (from the timestamp the mock upstream puts into it) = time in the gateway.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
typedef uint64_t u64;
static u64 now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (u64)t.tv_sec * 1000000000ull + t.tv_nsec; }
typedef struct { double *v; size_t n, cap; } arr;
static void push(arr *a, double x) { if (a->n == a->cap) { a->cap = a->cap ? a->cap * 2 : 65536; a->v = realloc(a->v, a->cap * sizeof(double)); } a->v[a->n++] = x; }
static int cmp(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return x < y ? -1 : x > y; }
static void pr(const char *k, arr *a) { // microseconds
  if (!a->n) { printf(",\"%s\":null", k); return; }
  qsort(a->v, a->n, sizeof(double), cmp); double s = 0; for (size_t i = 0; i < a->n; i++) s += a->v[i];
#define Q(p) a->v[(size_t)((a->n - 1) * p)]
  printf(",\"%s\":{\"n\":%zu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", k, a->n, s / a->n, Q(.5), Q(.9), Q(.99), Q(.999), a->v[a->n - 1]);
}
typedef struct { int fd, busy, connecting, hdr, status, chunked, close_, rec; size_t out_off; u64 t0; long long cl, got;
  char hb[16384]; size_t hn; // header bytes
  int cst; long long csz;    // dechunk state
  int ts_state, ts_n; u64 ts; int dm, um; u64 prev_lat; int chunks, done, usage; int idx; u64 started; int rq; } conn;
static conn *C; static int ep, nc = 1, stream = 0; static struct sockaddr_in addr; static char **req; static size_t *req_n; static int n_req, turn; // the same request, once for each key
static arr lat, ttfc, clat, jit, sdur; static u64 ok, bad, fail, timeouts, reconn, bytes, n_chunks, s_done, s_incomplete, s_usage, status_cnt[600], issued, maxreq; static u64 t_start, t_meas, t_end; static double timeout_s = 30, rate = 0; static u64 next_due; static int *idle, n_idle; static u64 missed;
static void start(conn *c, u64 at);
static void kick(conn *c);
static void rst(conn *c) { c->hdr = 1; c->hn = 0; c->status = 0; c->chunked = c->close_ = 0; c->cl = -1; c->got = 0; c->cst = 0; c->csz = 0; c->ts_state = c->ts_n = 0; c->dm = c->um = 0; c->chunks = c->done = c->usage = 0; c->prev_lat = 0; c->out_off = 0; }
static int dial(conn *c) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); int one = 1; setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, 4);
  int r = connect(c->fd, (void *)&addr, sizeof addr); if (r && errno != EINPROGRESS) { close(c->fd); c->fd = -1; return -1; }
  c->connecting = 1; struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.ptr = c}; epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e); return 0;
}
static void drop(conn *c) { if (c->fd >= 0) { epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0); close(c->fd); c->fd = -1; } }
static void next(conn *c) { c->busy = 0; u64 n = now_ns(); if (n >= t_end || (maxreq && issued >= maxreq)) return; if (rate > 0) { idle[n_idle++] = c->idx; return; } start(c, n); }
static void failed(conn *c) { if (c->busy) { if (c->rec) { fail++; if (stream) s_incomplete++; } } drop(c); reconn++; if (fail > 20000 || (fail > 500 && !ok)) { t_end = 0; return; } next(c); }
static void start(conn *c, u64 at) { rst(c); c->busy = 1; c->t0 = at; c->started = now_ns(); c->rec = at >= t_meas; issued++; c->rq = turn++ % n_req; if (c->fd < 0) { if (dial(c)) { failed(c); return; } return; } kick(c); }
static void kick(conn *c) { while (c->out_off < req_n[c->rq]) { ssize_t n = send(c->fd, req[c->rq] + c->out_off, req_n[c->rq] - c->out_off, MSG_NOSIGNAL); if (n < 0) { if (errno == EAGAIN) return; failed(c); return; } c->out_off += n; } }
static void finish(conn *c, u64 now) {
  if (c->rec) {
    if (c->status < 600) status_cnt[c->status]++;
    if (c->status == 200 && (!stream || c->done)) { ok++; if (stream) { s_done++; push(&sdur, (now - c->t0) / 1e3); if (c->usage) s_usage++; } else push(&lat, (now - c->t0) / 1e3); }
    else { bad++; if (stream) s_incomplete++; }
  }
  if (c->close_) { drop(c); reconn++; }
  next(c);
}
static const char DONE[] = "[DONE]", US[] = "\"total_tokens\"";
static void scan(conn *c, const char *p, size_t n, u64 now) {
  for (size_t i = 0; i < n; i++) { char ch = p[i];
    if (c->ts_state == 0) { if (ch == '@') { c->ts_state = 1; c->ts_n = 0; c->ts = 0; } }
    else if (ch >= '0' && ch <= '9' && c->ts_n < 16) { c->ts = c->ts * 10 + (ch - '0'); c->ts_n++; }
    else if (ch == '@' && c->ts_n == 16) { c->ts_state = 0; if (c->rec) { n_chunks++; u64 l = now > c->ts ? now - c->ts : 0; if (!c->chunks) push(&ttfc, (now - c->t0) / 1e3); else push(&jit, (l > c->prev_lat ? l - c->prev_lat : c->prev_lat - l) / 1e3); push(&clat, l / 1e3); c->prev_lat = l; } c->chunks++; }
    else { c->ts_state = ch == '@'; c->ts_n = 0; c->ts = 0; }
    if (ch == DONE[c->dm]) { if (++c->dm == 6) { c->done = 1; c->dm = 0; } } else c->dm = ch == '[';
    if (ch == US[c->um]) { if (++c->um == 14) { c->usage = 1; c->um = 0; } } else c->um = ch == '"';
  }
}
static void on_read(conn *c) {
  char buf[65536];
  for (;;) {
    ssize_t n = recv(c->fd, buf, sizeof buf, 0);
    if (n < 0) { if (errno == EAGAIN) return; failed(c); return; }
    u64 now = now_ns();
    if (n == 0) { if (c->busy && !c->hdr && c->cl < 0 && !c->chunked) { c->close_ = 1; finish(c, now); return; } if (c->busy) failed(c); else { drop(c); } return; }
    bytes += n; char *p = buf, *e = buf + n;
    while (p < e) {
      if (!c->busy) { return; }
      if (c->hdr) {
        size_t k = e - p; if (k > sizeof c->hb - c->hn) k = sizeof c->hb - c->hn; if (!k) { failed(c); return; }
        memcpy(c->hb + c->hn, p, k); size_t old = c->hn; c->hn += k; char *h = memmem(c->hb, c->hn, "\r\n\r\n", 4); if (!h) { p += k; continue; }
        size_t hl = h - c->hb + 4; p += hl - old; h[2] = 0; c->status = atoi(c->hb + 9); c->hdr = 0;
        if (c->status == 100) { c->hdr = 1; c->hn = 0; continue; }
        for (char *l = c->hb; l && l < h; ) { char *q = strstr(l, "\r\n"); if (!strncasecmp(l, "content-length:", 15)) c->cl = atoll(l + 15); else if (!strncasecmp(l, "transfer-encoding:", 18)) c->chunked = strstr(l, "chunked") && (!q || strstr(l, "chunked") < q); else if (!strncasecmp(l, "connection:", 11)) { char *v = l + 11; while (*v == ' ') v++; c->close_ = !strncasecmp(v, "close", 5); } l = q ? q + 2 : 0; }
        if (!c->chunked && c->cl == 0) { finish(c, now); if (p >= e) goto more; continue; }
        continue;
      }
      if (c->chunked) { // cst 0 size line, 1 data, 2 CR after data, 3 trailer
        if (c->cst == 0) { char ch = *p++; if (ch == '\n') { c->cst = c->csz ? 1 : 3; c->hn = 0; c->got = 0; } else if (ch == '\r' || c->got) {} else if (ch == ';') c->got = 1; else c->csz = c->csz * 16 + (ch <= '9' ? ch - '0' : (ch | 32) - 'a' + 10); }
        else if (c->cst == 1) { long long k = e - p; if (k > c->csz) k = c->csz; if (stream) scan(c, p, k, now); p += k; c->csz -= k; if (!c->csz) c->cst = 2; }
        else if (c->cst == 2) { if (*p++ == '\n') { c->cst = 0; c->got = 0; } }
        else { char ch = *p++; if (ch == '\n') { if (c->hn == 0) { finish(c, now); goto more; } c->hn = 0; } else if (ch != '\r') c->hn++; }
      } else { long long k = e - p; if (c->cl >= 0 && k > c->cl - c->got) k = c->cl - c->got; if (stream) scan(c, p, k, now); c->got += k; p += k; if (c->cl >= 0 && c->got >= c->cl) { finish(c, now); goto more; } }
    }
  more: if (c->fd < 0 || c->connecting) return; if ((size_t)n < sizeof buf) return;
  }
}
int main(int argc, char **argv) {
  const char *host = "127.0.0.1", *path = "/v1/chat/completions", *model = "mock"; int port = 17900, o, pad = 600, usage = 1; double dur = 10, warm = 1, ramp = 0; char hdrs[4096] = ""; char *raw = 0, *keys = 0;
  while ((o = getopt(argc, argv, "h:p:P:c:d:w:n:m:sH:R:b:T:r:UB:K:")) > 0) switch (o) {
    case 'h': host = optarg; break; case 'p': port = atoi(optarg); break; case 'P': path = optarg; break; case 'c': nc = atoi(optarg); break; case 'd': dur = atof(optarg); break; case 'w': warm = atof(optarg); break; case 'n': maxreq = atoll(optarg); break; case 'm': model = optarg; break; case 's': stream = 1; break; case 'H': strcat(hdrs, optarg); strcat(hdrs, "\r\n"); break; case 'R': rate = atof(optarg); break; case 'b': pad = atoi(optarg); break; case 'T': timeout_s = atof(optarg); break; case 'r': ramp = atof(optarg); break; case 'U': usage = 0; break; case 'B': raw = optarg; break; case 'K': keys = optarg; break; default: return 2; }
  signal(SIGPIPE, SIG_IGN); prctl(PR_SET_TIMERSLACK, 1); alarm(dur + warm + timeout_s + 20);
  struct rlimit rl = {65536, 65536}; setrlimit(RLIMIT_NOFILE, &rl);
  char *txt = malloc(pad + 1); for (int i = 0; i < pad; i++) txt[i] = "Summarise the quarterly report and list every risk that it names. "[i % 66]; txt[pad] = 0;
  char *body = malloc(pad + 2048); size_t bn;
  if (raw) { body = raw; bn = strlen(raw); }
  else bn = sprintf(body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},{\"role\":\"user\",\"content\":\"%s\"}],\"temperature\":0.7,\"max_tokens\":256%s%s}", model, txt, stream ? ",\"stream\":true" : "", stream && usage ? ",\"stream_options\":{\"include_usage\":true}" : "");
  if (strstr(path, "/embeddings") && !raw) bn = sprintf(body, "{\"model\":\"%s\",\"input\":\"%s\"}", model, txt);
  FILE *kf = keys ? fopen(keys, "r") : 0; if (keys && !kf) { perror(keys); return 2; }
  char line[512], auth[600]; const char *given = strcasestr(hdrs, "authorization:") ? "" : "Authorization: Bearer sk-mock\r\n";
  do {
    if (kf && !fgets(line, sizeof line, kf)) break;
    if (kf) { line[strcspn(line, "\r\n")] = 0; snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n", line); }
    req = realloc(req, (n_req + 1) * sizeof *req); req_n = realloc(req_n, (n_req + 1) * sizeof *req_n);
    char *r = req[n_req] = malloc(bn + 8192); size_t n = sprintf(r, "POST %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: OpenAI/Python 1.99.0\r\nAccept: application/json\r\n%s%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", path, host, port, kf ? auth : given, hdrs, bn);
    memcpy(r + n, body, bn); req_n[n_req++] = n + bn;
  } while (kf);
  if (!n_req) { fprintf(stderr, "no keys\n"); return 2; }
  addr.sin_family = AF_INET; addr.sin_port = htons(port); inet_pton(AF_INET, host, &addr.sin_addr); if ((ntohl(addr.sin_addr.s_addr) >> 24) != 127) { fprintf(stderr, "loopback only\n"); return 2; }
  ep = epoll_create1(0); C = calloc(nc, sizeof *C); idle = calloc(nc, sizeof *idle);
  t_start = now_ns(); t_meas = t_start + warm * 1e9; t_end = t_meas + dur * 1e9; struct rusage ru0, ru1; getrusage(RUSAGE_SELF, &ru0);
  int started = 0; for (int i = 0; i < nc; i++) { C[i].fd = -1; C[i].idx = i; }
  if (rate > 0) { for (int i = 0; i < nc; i++) idle[n_idle++] = nc - 1 - i; next_due = t_start; }
  struct epoll_event ev[512]; u64 last_sweep = t_start, drain_end = t_end + 1.0e9 * (stream ? 0.0 : 0.0);
  for (;;) {
    u64 n0 = now_ns(); if (n0 >= t_end || n0 >= drain_end) break; if (maxreq && issued >= maxreq) { int b = 0; for (int i = 0; i < nc; i++) b += C[i].busy; if (!b) break; }
    if (rate <= 0 && started < nc) { int upto = ramp > 0 ? (int)((n0 - t_start) / 1e9 / ramp * nc) + 1 : nc; if (upto > nc) upto = nc; while (started < upto) start(&C[started++], now_ns()); }
    while (rate > 0 && next_due <= n0) { if (n_idle) start(&C[idle[--n_idle]], next_due); else missed++; next_due += 1e9 / rate; }
    if (n0 - last_sweep > 1000000000ull) { last_sweep = n0; for (int i = 0; i < nc; i++) if (C[i].busy && n0 > C[i].started && (n0 - C[i].started) / 1e9 > timeout_s) { timeouts++; failed(&C[i]); } }
    u64 w = n0 + 50000000ull; if (rate > 0 && next_due < w) w = next_due; if (rate <= 0 && started < nc && n0 + 1000000 < w) w = n0 + 1000000; if (t_end < w) w = t_end; u64 d = w > n0 ? w - n0 : 0; struct timespec ts = {d / 1000000000ull, d % 1000000000ull};
    int n = epoll_pwait2(ep, ev, 512, &ts, 0);
    for (int i = 0; i < n; i++) { conn *c = ev[i].data.ptr; if (c->fd < 0) continue;
      if (c->connecting && (ev[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) { int er = 0; socklen_t l = 4; getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &er, &l); c->connecting = 0; if (er) { failed(c); continue; } kick(c); if (c->fd < 0) continue; }
      else if ((ev[i].events & EPOLLOUT) && c->busy && c->out_off < req_n[c->rq]) { kick(c); if (c->fd < 0) continue; }
      if (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) on_read(c); }
  }
  u64 t1 = now_ns(); getrusage(RUSAGE_SELF, &ru1); double el = (t1 - t_meas) / 1e9; if ((double)t1 < (double)t_meas) el = 0; int inflight = 0; for (int i = 0; i < nc; i++) inflight += C[i].busy;
  double cpu = ru1.ru_utime.tv_sec + ru1.ru_stime.tv_sec + (ru1.ru_utime.tv_usec + ru1.ru_stime.tv_usec) / 1e6 - (ru0.ru_utime.tv_sec + ru0.ru_stime.tv_sec + (ru0.ru_utime.tv_usec + ru0.ru_stime.tv_usec) / 1e6);
  printf("{\"mode\":\"%s\",\"c\":%d,\"seconds\":%.3f,\"ok\":%llu,\"rps\":%.1f,\"bad\":%llu,\"fail\":%llu,\"timeouts\":%llu,\"reconnects\":%llu,\"issued\":%llu,\"inflight_at_end\":%d,\"missed\":%llu,\"bytes\":%llu,\"client_cpu_s\":%.3f", stream ? "stream" : "unary", nc, el, (unsigned long long)ok, el > 0 ? ok / el : 0, (unsigned long long)bad, (unsigned long long)fail, (unsigned long long)timeouts, (unsigned long long)reconn, (unsigned long long)issued, inflight, (unsigned long long)missed, (unsigned long long)bytes, cpu);
  printf(",\"status\":{"); int f = 0; for (int i = 0; i < 600; i++) if (status_cnt[i]) { printf("%s\"%d\":%llu", f ? "," : "", i, (unsigned long long)status_cnt[i]); f = 1; } printf("}");
  if (stream) { printf(",\"streams_done\":%llu,\"streams_with_usage\":%llu,\"incomplete\":%llu,\"chunks\":%llu,\"chunks_s\":%.1f", (unsigned long long)s_done, (unsigned long long)s_usage, (unsigned long long)s_incomplete, (unsigned long long)n_chunks, n_chunks / el); pr("ttfc_us", &ttfc); pr("chunk_us", &clat); pr("jitter_us", &jit); pr("stream_us", &sdur); }
  else pr("lat_us", &lat);
  printf("}\n"); return 0;
}
