/** A link that dies without a word, between two network namespaces. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { setsProbes } from "../../src/node/internal/stream/tcp.ts"
import { isLong, long } from "../support/often.ts"
import { program, said, supportFile } from "./support/kit.ts"

const ip = (...args: ReadonlyArray<string>): boolean =>
  ChildProcess.spawnSync("ip", args, { stdio: "ignore" }).status === 0

const names = { server: `holdfast-${process.pid}-a`, client: `holdfast-${process.pid}-b` }

/** Whether this machine gives us namespaces: Linux, iproute2, and the privilege. */
const canSeparate = isLong && setsProbes && ip("netns", "add", names.server) && ip("netns", "del", names.server)

/** Two namespaces with one link between them, and what cuts it: both ends send to a machine that is not there. */
const link = Effect.acquireRelease(
  Effect.sync(() => {
    const within = (end: "server" | "client", ...args: ReadonlyArray<string>): boolean => ip("-n", names[end], ...args)
    const made = ip("netns", "add", names.server) && ip("netns", "add", names.client) &&
      within("server", "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", names.client) &&
      within("server", "addr", "add", "10.213.7.1/30", "dev", "veth0") &&
      within("client", "addr", "add", "10.213.7.2/30", "dev", "veth0") &&
      within("server", "link", "set", "veth0", "up") && within("client", "link", "set", "veth0", "up")
    assert.isTrue(made, "a link between two namespaces")
    const toNowhere = ["lladdr", "02:00:00:00:00:99", "dev", "veth0", "nud", "permanent"]
    return () => {
      assert.isTrue(within("server", "neigh", "replace", "10.213.7.2", ...toNowhere))
      assert.isTrue(within("client", "neigh", "replace", "10.213.7.1", ...toNowhere))
    }
  }),
  () =>
    Effect.sync(() => {
      ip("netns", "del", names.server)
      ip("netns", "del", names.client)
    })
)

const within = (name: string, role: string) =>
  program("ip", [
    "netns",
    "exec",
    name,
    process.execPath,
    "--conditions=holdfast-source",
    supportFile("endOfLink.ts"),
    role,
    "tcp://10.213.7.1:7000"
  ])

describe.skipIf(!canSeparate)(
  "a dead link (in npm run test:long, with network namespaces: root on Linux, iproute2, Node 24.19 or newer)",
  () => {
    it.live(
      "B138 without a heartbeat ends at both ends within keepAlive and keepAliveCount times keepAliveInterval",
      () =>
        Effect.gen(function*() {
          const cut = yield* link
          const server = yield* within(names.server, "listen")
          yield* said(server, "listening")
          const client = yield* within(names.client, "dial")
          yield* said(server, "open")
          yield* said(client, "open")
          cut()
          for (const end of [server, client]) {
            const [reason, after] = (yield* said(end, "ended")).split(" ")
            assert.strictEqual(reason, "TransportFailed")
            // 2 s, and 2 probes one second apart; with libuv's own it would be 12 s
            assert.isAbove(Number(after), 3_000)
            assert.isBelow(Number(after), 5_500)
          }
        }),
      long(60_000)
    )
  }
)
