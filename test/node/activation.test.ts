/** Sockets that systemd passes to a process (`LISTEN_FDS`): which one is meant, and that it is listened on. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { Listener } from "../../src/node/index.ts"
import { chosen, inheritedBy, wrongDescriptor } from "../../src/node/internal/addresses/activation.ts"
import { client, onLinux, tempDir, until } from "./fixtures/kit.ts"

const fixture = fileURLToPath(new URL("fixtures/inherited.ts", import.meta.url))

/** What a process says that gets sockets as systemd passes them. `variables` are shell: `$$` is its own number. */
const activated = Effect.fnUntraced(function*(fds: ReadonlyArray<number>, variables: string, url: string, fd: string) {
  const script = `${variables} exec "$0" --conditions=holdfast-source "$@"`
  const child = ChildProcess.spawn("sh", ["-c", script, process.execPath, fixture, url, fd], {
    stdio: ["pipe", "pipe", "inherit", ...fds],
    env: { PATH: process.env.PATH, NODE_OPTIONS: "", NODE_NO_WARNINGS: "1" }
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
  let said = ""
  child.stdout!.on("data", (data) => said += data)
  yield* until("the child says something", () => said.endsWith("\n"), 10_000)
  return said.trim()
})

/** A socket that listens and accepts nothing. */
const bound = (where: Net.ListenOptions) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const server = Net.createServer((conn) => conn.destroy())
        await new Promise<void>((resolve) => server.listen(where, resolve))
        return server
      }),
      (server) => Effect.sync(() => server.close())
    ),
    (server) => (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd
  )

const failed = <A>(result: Result.Result<A, string>): string => Result.getOrThrow(Result.flip(result))

describe("LISTEN_FDS", () => {
  it("is for one process, and has a number", () => {
    const of = (variables: NodeJS.ProcessEnv) => inheritedBy(7, variables)
    assert.deepStrictEqual(
      Result.getOrThrow(of({ LISTEN_PID: "7", LISTEN_FDS: "3", LISTEN_FDNAMES: "web:web" })),
      [{ fd: 3, name: "web" }, { fd: 4, name: "web" }, { fd: 5, name: "unknown" }]
    )
    assert.match(failed(of({})), /no sockets to this process \(no LISTEN_FDS\): start it by its socket unit/)
    assert.match(failed(of({ LISTEN_FDS: "1" })), /no sockets to this process/)
    assert.match(failed(of({ LISTEN_PID: "8", LISTEN_FDS: "1" })), /for the process 8, and this is 7: .*`exec`/)
    for (const count of ["0", "-1", "x", "", "99999"]) {
      assert.match(failed(of({ LISTEN_PID: "7", LISTEN_FDS: count })), /passed no sockets \(LISTEN_FDS is /)
    }
  })

  it("which one is meant: the only one, or the only one with the name", () => {
    const web = { fd: 3, name: "web" }
    const api = { fd: 4, name: "api" }
    assert.strictEqual(Result.getOrThrow(chosen([web], undefined)), 3)
    assert.strictEqual(Result.getOrThrow(chosen([web, api], "api")), 4)
    assert.match(failed(chosen([web, api], undefined)), /2 sockets, 3 \(web\), 4 \(api\): choose one by its name/)
    assert.match(failed(chosen([web], "api")), /no socket of the name api, and 3 \(web\): choose one by its name/)
    assert.match(failed(chosen([web, { ...api, name: "web" }], "web")), /2 sockets of the name web.*by its number/)
    for (const fd of ["systemd:", -1, 1.5] as const) {
      assert.match(String(wrongDescriptor(fd)), /no file descriptor/)
    }
    assert.isUndefined(wrongDescriptor("systemd:web"))
  })

  it.live("none is a typed error", () =>
    Effect.gen(function*() {
      const { message, reason } = yield* Effect.flip(Effect.scoped(Listener.make("tcp://a:1", { fd: "systemd" })))
      assert.strictEqual(reason, "BadOption")
      assert.match(message, /^cannot listen on tcp:\/\/a:1: systemd has passed no sockets to this process/)
    }))

  it.live.skipIf(!onLinux)(
    "a listener takes what was passed, and what it starts does not see the variables",
    () =>
      Effect.gen(function*() {
        const dir = yield* tempDir
        const tcp = yield* bound({ host: "127.0.0.1", port: 0 })
        const unix = yield* bound({ path: `${dir}/app.sock` })
        const both = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=one:two"
        assert.strictEqual(
          yield* activated([tcp, unix], both, `unix://${dir}/app.sock`, "systemd:two"),
          `unix://${dir}/app.sock`
        )
        // this process listens too, and closes what it accepts
        let isEchoed = false
        yield* Effect.repeat(
          Effect.scoped(Effect.gen(function*() {
            const peer = yield* client({ url: `unix://${dir}/app.sock` })
            peer.conn.write("hello")
            yield* until("an answer or the end", () => peer.text === "hello" || peer.closed || peer.ended)
            isEchoed = peer.text === "hello"
          })),
          { until: () => isEchoed, times: 200 }
        )
        assert.isTrue(isEchoed)
      })
  )
})
