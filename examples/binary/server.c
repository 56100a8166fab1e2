/* Answers every HTTP request on port 8080 with a greeting, one after the other. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char answer[] =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 25\r\n"
    "Connection: close\r\n"
    "\r\n"
    "hello from a C program :)";

static void finish(int number)
{
    (void)number;
    _exit(0);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, server = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) < 0 || listen(server, 128) < 0) {
        perror("cannot listen");
        exit(1);
    }
    return server;
}

/* Reads to the end of the request's head, so that closing does not reset the connection before it is answered. */
static void serve(int client)
{
    const struct timeval patience = {.tv_sec = 2};
    char head[8192];
    size_t length = 0;
    ssize_t got;

    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (length < sizeof head - 1 && (got = read(client, head + length, sizeof head - 1 - length)) > 0) {
        length += (size_t)got;
        head[length] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL) {
            if (write(client, answer, sizeof answer - 1) < 0)
                perror("cannot answer");
            break;
        }
    }
    close(client);
}

int main(void)
{
    int server = listen_on(8080);

    signal(SIGTERM, finish);
    signal(SIGPIPE, SIG_IGN);
    puts("listening on port 8080");
    fflush(stdout);
    for (;;) {
        int client = accept(server, NULL, NULL);

        if (client >= 0)
            serve(client);
    }
}
