// Tells each second which release it is: to who listens for events, and to who talks over a WebSocket, which it answers.
const http = require("node:http");
const { WebSocketServer } = require("ws");

const release = process.env.INSTAR_RELEASE;
const listeners = new Set();

const server = http.createServer((request, answer) => {
  if (request.url === "/healthz") return answer.end("ok\n");
  if (request.url !== "/events") return answer.end(`release ${release}\n`);
  answer.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  answer.write(`retry: 200\ndata: release ${release}\n\n`); // a browser comes again 200 ms after a stream has ended
  listeners.add(answer);
  answer.on("close", () => listeners.delete(answer));
});

const talks = new WebSocketServer({ server, path: "/talk" });
talks.on("connection", (talk) => talk.on("message", (said) => talk.send(`release ${release}: ${said}`)));

setInterval(() => {
  for (const listener of listeners) listener.write(`data: release ${release}\n\n`);
}, 1000);

// By then the router has cut what was left of the streams: there is nothing to wait for but requests.
process.on("SIGTERM", () => server.close(() => process.exit(0)));

server.listen(8080, "0.0.0.0");
