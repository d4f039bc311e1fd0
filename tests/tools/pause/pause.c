// The sandbox process of a pod: holds the namespaces, reaps orphans, ends on a signal.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(int argc, char **argv) {
    // As PID 1 an unhandled signal is ignored, so the ending ones need handlers.
    struct sigaction ending = {.sa_handler = end};
    struct sigaction child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
    if (sigaction(SIGINT, &ending, NULL) || sigaction(SIGTERM, &ending, NULL) ||
        sigaction(SIGCHLD, &child, NULL)) {
        return 1;
    }
    // Words to print make the image useful to tests of `kubectl logs` as well.
    for (int i = 1; i < argc; i++) {
        printf("%s%s", argv[i], i + 1 < argc ? " " : "\n");
    }
    fflush(stdout);
    for (;;) {
        pause();
    }
}
