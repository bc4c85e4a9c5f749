/**
 * An echo server of any codec in a process of its own, with its gauge: codec, policy as JSON.
 *
 * in:  "held", "most"
 * out: "listening PORT", "held BYTES", "most BYTES" (looked at four times a second)
 */
import * as Effect from "effect/Effect"
import * as SocketServer from "effect/socket/SocketServer"
import * as Readline from "node:readline"
import { Codec, Connection, Memory, Policy, Protocol, Server } from "../../../src/index.ts"
import { Listener } from "../../../src/node/index.ts"

type Served = Codec.Codec<unknown>

// as two codecs of different messages have it: what comes goes back
const any = <A>(codec: Codec.Codec<A>): Served => codec as unknown as Served

const codecs: Readonly<Record<string, Served>> = {
  bytes: any(Codec.bytes()),
  fixed: any(Codec.fixed(1)),
  lengthPrefix: any(Codec.lengthPrefix()),
  onePrefix: any(Codec.lengthPrefix({ bytes: 1 })),
  varint: any(Codec.varint()),
  delimiter: any(Codec.delimiter("\0")),
  lines: any(Codec.lines()),
  textFrames: any(Codec.lengthPrefix().pipe(Codec.text)),
  jsonLines: any(Codec.lines().pipe(Codec.json)),
  jsonFrames: any(Codec.lengthPrefix().pipe(Codec.json)),
  msgpack: any(Codec.lengthPrefix().pipe(Codec.msgpack)),
  msgpackVarint: any(Codec.varint().pipe(Codec.msgpack))
}

const [, , name = "lines", patch = "{}", url = "tcp://127.0.0.1:0", protocol = "none"] = process.argv
const codec = codecs[name]!

const main = Effect.gen(function*() {
  const policy = yield* Policy.decode(JSON.parse(patch))
  const listener = yield* Listener.make(url, { policy })
  // the gauge of a server without a budget of its own is that of the process
  const memory = "memory" in JSON.parse(patch)
    ? Memory.make({ limit: policy.memory, patience: policy.writeStall })
    : undefined
  let most = 0
  const look = memory === undefined ? Effect.void : Effect.map(memory.held, (held) => {
    most = Math.max(most, held)
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(look, Effect.sleep("250 millis"))))
  console.log(`listening ${listener.url.split(":").at(-1)}`)
  Readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const held = memory === undefined ? 0 : Effect.runSync(memory.held)
    console.log(line === "most" ? `most ${most}` : `held ${held}`)
  }).on("close", () => process.exit())
  const run = Server.run({
    policy,
    open: protocol === "native" ? Protocol.server({ codec, policy }) : Connection.make({ codec, policy }),
    handle: (connection) => Effect.forever(Effect.flatMap(connection.receive, connection.send)),
    logs: process.env.LOGS === "on"
  }).pipe(Effect.provideService(SocketServer.SocketServer, listener))
  return yield* memory === undefined ? run : memory.provide(run)
})

Effect.runFork(Effect.scoped(main))
