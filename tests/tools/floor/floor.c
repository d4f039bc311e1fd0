// The least that recording WebRTC can cost: receive, decrypt, copy into a transport stream's packets, write.
// No ICE, no DTLS, no RTCP, no order, no clocks, no sound: a lower limit, not a recorder.
// Usage: floor PORT COUNT FOLDER: receives SRTP (AES-128-GCM, the key of ../load/srtp.go) on COUNT ports from PORT on.
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <srtp2/srtp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TS = 188, TS_HEADER = 4, WRITE_AT = 64 * 1024, DATAGRAM = 2048, RTP_HEADER = 12, STREAMS_MAX = 100 };

static volatile sig_atomic_t stopped;
static void stop(int signal) { (void)signal, stopped = 1; }

struct stream {
    int socket, file;
    srtp_t srtp;
    unsigned char out[WRITE_AT + DATAGRAM * 2];
    int filled;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void flush(struct stream *s) {
    for (int done = 0, n; done < s->filled; done += n)
        if ((n = write(s->file, s->out + done, s->filled - done)) < 0) fail("write");
    s->filled = 0;
}

static void copy(struct stream *s, const unsigned char *payload, int length) {
    static const unsigned char header[TS_HEADER] = {0x47, 0x01, 0x00, 0x10};
    for (int at = 0; at < length; at += TS - TS_HEADER) {
        int part = length - at < TS - TS_HEADER ? length - at : TS - TS_HEADER;
        memcpy(s->out + s->filled, header, TS_HEADER);
        memcpy(s->out + s->filled + TS_HEADER, payload + at, part);
        memset(s->out + s->filled + TS_HEADER + part, 0xff, TS - TS_HEADER - part);
        s->filled += TS;
    }
    if (s->filled >= WRITE_AT) flush(s);
}

static void receive(struct stream *s) {
    static unsigned char datagram[DATAGRAM];
    int length;
    while ((length = recv(s->socket, datagram, sizeof datagram, MSG_DONTWAIT)) > 0)
        if (srtp_unprotect(s->srtp, datagram, &length) == srtp_err_status_ok && length > RTP_HEADER)
            copy(s, datagram + RTP_HEADER, length - RTP_HEADER);
}

static void open_stream(struct stream *s, int port, const char *folder, int number) {
    static unsigned char key[] = "load-publisher16load-publish";
    srtp_policy_t policy = {.key = key, .ssrc = {.type = ssrc_any_inbound}, .window_size = 128};
    srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
    srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtcp);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char path[4096];
    snprintf(path, sizeof path, "%s/%d.ts", folder, number);
    if (srtp_create(&s->srtp, &policy) != srtp_err_status_ok) fail("srtp_create");
    if ((s->socket = socket(AF_INET, SOCK_DGRAM, 0)) < 0 || bind(s->socket, (void *)&address, sizeof address) < 0) fail("bind");
    if ((s->file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644)) < 0) fail(path);
}

int main(int count_of_arguments, char **arguments) {
    int count = count_of_arguments == 4 ? atoi(arguments[2]) : 0;
    if (count < 1 || count > STREAMS_MAX) return fprintf(stderr, "usage: floor PORT COUNT FOLDER\n"), 2;
    struct stream *streams = calloc(count, sizeof *streams);
    static struct pollfd polled[STREAMS_MAX];
    if (!streams || srtp_init() != srtp_err_status_ok) fail("start");
    for (int i = 0; i < count; i++) {
        open_stream(&streams[i], atoi(arguments[1]) + i, arguments[3], i);
        polled[i] = (struct pollfd){.fd = streams[i].socket, .events = POLLIN};
    }
    signal(SIGTERM, stop);
    puts("listening");
    fflush(stdout);
    while (!stopped) {
        poll(polled, count, 1000);
        for (int i = 0; i < count; i++)
            if (polled[i].revents) receive(&streams[i]);
    }
    for (int i = 0; i < count; i++) flush(&streams[i]);
    return 0;
}
