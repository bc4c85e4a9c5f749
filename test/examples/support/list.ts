/** The examples, and what each shows. */

export const titles = {
  chat: "rooms, logins, take-over and presence; a web page and nc talk to each other",
  browser: "a page that comes back by itself, and shows where its connection stands",
  history: "a chat of two nodes that misses nothing across reconnects and their deaths, or says so",
  telemetry: "1,000 devices report to a gateway, with pings that adapt and answers that survive reconnects",
  rpc: "Effect's RPC over a server that is replaced, drains, and loses no call",
  redis: "a Redis client: pipelines over a pool of connections, typed failures, retries",
  mqtt: "an MQTT client against mosquitto: it subscribes again after each reconnect",
  nats: "a NATS client against nats-server: subscriptions, questions and answers",
  proxies: "a gateway behind nginx and HAProxy that knows the addresses of its clients"
} as const

export type Name = keyof typeof titles

export const names = Object.keys(titles) as ReadonlyArray<Name>

export const isName = (name: string): name is Name => Object.hasOwn(titles, name)
