/** What an application's errors say: nothing of it on a wire, all of it in the log. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Logger, Schema } from "effect"
import { SocketServer } from "effect/socket"
import * as Net from "node:net"
import { Codec, Connection, ConnectionError, Protocol, Server } from "../../src/index.ts"
import { Listener } from "../../src/node/index.ts"

type Line = Connection.Connection<string>
type Options = Server.Options<string, string, void, unknown, unknown, never, never, never>

const secret = "hunter2"
const failure = () => new Error(`db password=${secret}`, { cause: new Error(`at /srv/${secret}.key`) })
const failed = <A = never>(): Effect.Effect<A, Error> => Effect.suspend(() => Effect.fail(failure()))
const died = Effect.suspend(() => Effect.die(failure()))
const receive = (connection: Line) => connection.receive

const throws = Codec.map<string, string, string, string>({
  decode: () => {
    throw failure()
  },
  encode: () => {
    throw failure()
  }
})
const literal = (codec: Codec.Codec<string>) => Codec.schema(Schema.Literal(secret))(codec) as Codec.Codec<string>

interface Case {
  readonly codec?: (codec: Codec.Codec<string>) => Codec.Codec<string>
  readonly options?: Partial<Options>
}

const cases: Readonly<Record<string, Case>> = {
  "a handshake that fails": { options: { handshake: failed } },
  "a handshake that dies": { options: { handshake: () => died } },
  "names that throw": {
    options: {
      registry: { add: () => Effect.void } as never,
      names: () => {
        throw failure()
      }
    }
  },
  "a registry that fails": {
    options: {
      registry: { add: () => Effect.fail(ConnectionError.make(new ConnectionError.OpenFailed({ cause: failure() }))) }
    }
  },
  "a handler that fails": { options: { handle: failed } },
  "a handler that dies": { options: { handle: () => died } },
  "a handler whose own dial fails": {
    options: { handle: () => Effect.fail(ConnectionError.make(new ConnectionError.OpenFailed({ cause: failure() }))) }
  },
  "a handler whose own server refuses it": {
    options: {
      handle: () =>
        Effect.fail(ConnectionError.make(
          new ConnectionError.UpgradeRefused({ status: 401, statusText: secret, headers: { "x-key": secret } })
        ))
    }
  },
  "a codec that throws while it reads": { codec: throws },
  "a codec that throws while it writes": { codec: throws, options: { handle: (connection) => connection.send("x") } },
  "a schema with a secret": { codec: literal },
  "a schema with a secret, written": { codec: literal, options: { handle: (connection) => connection.send("x") } },
  "onEvent that fails": { options: { onEvent: () => Effect.orDie(failed()) } }
}

const lengths = (bytes: Uint8Array): Buffer => {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(bytes.length)
  return Buffer.concat([head, bytes])
}
const hello = Buffer.concat([Buffer.from([1, 0x48, 0x46, 1, 1]), Buffer.alloc(8)])
const data = Buffer.concat([Buffer.from([5]), Buffer.from("\"hi\"")])
const masked = (opcode: number, body: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | body.length, 0, 0, 0, 0]), body])
const upgrade = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n" +
  "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

const ways = {
  "tcp": { url: "tcp://127.0.0.1:0", isNative: false, says: ["\"hi\"\n"] },
  "ws": { url: "ws://127.0.0.1:0/", isNative: false, says: [upgrade, masked(1, Buffer.from("\"hi\""))] },
  "native over tcp": {
    url: "tcp://127.0.0.1:0",
    isNative: true,
    says: [Buffer.concat([lengths(hello), lengths(data)])]
  },
  "native over ws": {
    url: "ws://127.0.0.1:0/",
    isNative: true,
    says: [upgrade, Buffer.concat([masked(2, hello), masked(2, data)])]
  }
} as const

/** All that a client reads which says this and then waits. */
const heard = (url: string, says: ReadonlyArray<string | Buffer>): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const conn = Net.connect({ host: "127.0.0.1", port: Number(/:(\d+)/.exec(url.slice(6))![1]) })
    const left = [...says]
    let all = ""
    const next = (): void => void (left.length > 0 && conn.write(left.shift()!))
    conn.on("error", () => {})
    conn.on("connect", next)
    conn.on("data", (chunk) => {
      all += chunk.toString("latin1")
      if (all.includes("\r\n\r\n")) next()
      // a peer that is closed by a close frame answers by ending
      if (left.length === 0 && !all.endsWith("\r\n\r\n")) setTimeout(() => conn.end(), 100)
    })
    conn.on("end", () => conn.end())
    conn.on("close", () => resume(Effect.succeed(all)))
    return Effect.sync(() => conn.destroy())
  })

describe("B131 an application's error text", () => {
  for (const [way, { isNative, says, url }] of Object.entries(ways)) {
    it.live(`is in the log, and nothing of it on the wire: ${way}`, () =>
      Effect.gen(function*() {
        const wrong: Array<string> = []
        for (const [name, { codec = (it: Codec.Codec<string>) => it, options }] of Object.entries(cases)) {
          let log = ""
          const logger = Logger.make(({ cause, message }) => {
            log += `${String(message)}\n${Cause.pretty(cause)}\n`
          })
          const policy = { halfClose: "100 millis", drain: "100 millis" } as const
          const open = isNative
            ? Protocol.server({ codec: codec(Codec.lengthPrefix().pipe(Codec.text)), policy })
            : Connection.make({ codec: codec(Codec.lines()), policy })
          const read = yield* Effect.scoped(Effect.gen(function*() {
            const listener = yield* Listener.make(url, {})
            yield* Effect.forkScoped(Effect.provideService(
              Server.run({ open, handle: receive, policy, ...options } as never),
              SocketServer.SocketServer,
              listener
            ))
            return yield* heard(listener.url, says)
          })).pipe(Effect.provide(Logger.layer([logger])))
          if (read.includes(secret) || read.includes("password")) {
            wrong.push(`${name}: on the wire ${JSON.stringify(read)}`)
          }
          const isAll = name.startsWith("a schema") || name.includes("refuses it")
            ? log.includes(secret)
            : log.includes(`password=${secret}`) && (name.startsWith("a codec") || log.includes(`/srv/${secret}.key`))
          if (!isAll) wrong.push(`${name}: not in the log ${JSON.stringify(log)}`)
        }
        assert.deepStrictEqual(wrong, [])
      }), 30_000)
  }
})
