/** `serve --workers` with real processes and the kernel: the spread, crashes, renewals, and how all of it ends. */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { onTestFinished } from "vitest"
import { freePort } from "../support/freePort.ts"
import { isLong, long } from "../support/often.ts"
import type { Client, Server } from "./support/kit.ts"
import { connect, main, run, serve, tempDir, until, words } from "./support/kit.ts"

const patience = 60_000

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

interface Line {
  readonly event?: string
  readonly worker?: number
  readonly pid?: number
  readonly address?: string
}

const linesOf = (server: Server, event: string): ReadonlyArray<Line> =>
  (server.logs() as ReadonlyArray<Line>).filter((line) => line.event === event)

/** Processes of workers, in the order in which they took connections. */
const pids = (server: Server): ReadonlyArray<number> => linesOf(server, "worker-ready").map(({ pid }) => pid!)

const begun = (server: Server, count: number): Promise<void> =>
  until(() => `${count} workers in\n${server.stderr}`, () => pids(server).length >= count, patience)

/** A server whose two workers take connections. */
const two = async (flags = ""): Promise<Server> => {
  const server = await serve(`--listen tcp://127.0.0.1:0 --log json --workers 2 ${flags}`)
  await begun(server, 2)
  // also where a test fails
  onTestFinished(() => {
    for (const pid of pids(server)) if (isAlive(pid)) process.kill(pid, "SIGKILL")
  })
  return server
}

const gone = (server: Server): Promise<void> =>
  until("the end of all workers", () => pids(server).every((pid) => !isAlive(pid)), patience)

const addressOf = ({ conn }: Client): string => `127.0.0.1:${conn.localPort}`

/** Which worker has each client. */
const workersOf = async (server: Server, clients: ReadonlyArray<Client>): Promise<ReadonlyArray<number>> => {
  const find = () => {
    const opened = new Map(linesOf(server, "open").map(({ address, worker }) => [address, worker!]))
    return clients.map((client) => opened.get(addressOf(client)))
  }
  await until("all to be open", () => find().every((worker) => worker !== undefined), patience)
  return find() as ReadonlyArray<number>
}

const many = (server: Server, count: number): Promise<ReadonlyArray<Client>> =>
  Promise.all(Array.from({ length: count }, () => connect(server.ports[0]!)))

const echo = async (client: Client, text: string): Promise<void> => {
  client.write(`${text}\n`)
  await until(() => `${text} from a worker`, () => client.text.endsWith(`${text}\n`), patience)
}

/** One client after the other: connects, is answered, and leaves. The result is what went wrong. */
const visitors = (port: number) => {
  const wrong: Array<string> = []
  let visits = 0
  const state = { isOver: false }
  const visit = (): Promise<void> =>
    new Promise((resolve) => {
      let text = ""
      const conn = Net.connect(port, "127.0.0.1", () => conn.write("hello\n"))
      conn.on("data", (data) => {
        text += data.toString()
        conn.end()
      })
      conn.on("error", (error) => wrong.push(error.message))
      conn.on("close", () => {
        visits++
        if (text !== "hello\n") wrong.push(`answered with "${text}"`)
        resolve()
      })
    })
  const loop = async (): Promise<void> => {
    while (!state.isOver) await visit()
  }
  const loops = Promise.all(Array.from({ length: 4 }, loop))
  return {
    get visits() {
      return visits
    },
    end: async () => {
      state.isOver = true
      await loops
      return wrong
    }
  }
}

describe.runIf(isLong)("serve --workers", () => {
  it("spreads 1,000 connections within 20 %, and says what each worker may have", long(120_000), async () => {
    const server = await two("--max-connections 3001 --accept-rate 2500 --max-connections-per-address 2000")
    assert.match(server.stderr, /2 workers, each with maxConnections 1501 of 3001, acceptRate 1250 of 2500/)
    assert.include(server.stderr, "; an address may have 2000 connections at each of them")
    const clients: Array<Client> = []
    for (let i = 0; i < 16; i++) clients.push(...await many(server, 50))
    // and each once the one before it is served
    for (let i = 0; i < 200; i++) {
      clients.push(await connect(server.ports[0]!))
      await echo(clients.at(-1)!, "hello")
    }
    const workers = await workersOf(server, clients)
    const [first, second] = [1, 2].map((number) => workers.filter((worker) => worker === number).length)
    assert.strictEqual(first! + second!, 1000)
    // 500 each, or a fifth of that more or less
    assert.isAtMost(Math.abs(first! - 500), 100, `${first} and ${second}`)
  })

  it("kill -9 of one worker loses its connections and no others, and it comes back", long(120_000), async () => {
    const server = await two()
    const clients = await many(server, 20)
    for (const client of clients) await echo(client, "before")
    const workers = await workersOf(server, clients)
    const killed = pids(server)[1]!
    process.kill(killed, "SIGKILL")
    await until("its connections to end", () => clients.every(({ ended }, i) => ended || workers[i] === 1), patience)
    // while it is away all go to the other one
    await echo(await connect(server.ports[0]!), "meanwhile")
    await begun(server, 3)
    const back = linesOf(server, "worker-ready").at(-1)!
    assert.strictEqual(back.worker, 2)
    for (const [i, client] of clients.entries()) if (workers[i] === 1) await echo(client, "after")
    const late = await many(server, 10)
    for (const client of late) await echo(client, "late")
    assert.strictEqual(new Set(await workersOf(server, late)).size, 2)
    const lost = linesOf(server, "worker-lost")
    assert.deepStrictEqual(lost.map(({ pid, worker }) => ({ pid, worker })), [{ pid: killed, worker: 2 }])
  })

  it("a message of the hub reaches the members in all workers, also after one has died", long(120_000), async () => {
    for (const protocol of ["lines", "frames"] as const) {
      const server = await two(`--mode hub --protocol ${protocol}`)
      const wrap = (text: string) =>
        protocol === "lines" ? `${text}\n` : `\0\0\0${String.fromCharCode(text.length)}${text}`
      const heard = async (clients: ReadonlyArray<Client>, text: string) => {
        // a worker hears of another one within a second
        await until(() => `"${text}" at all`, () => {
          clients[0]!.write(wrap(text))
          return clients.slice(1).every((client) => client.text.includes(wrap(text)))
        }, patience)
        assert.notInclude(clients[0]!.text, wrap(text))
      }
      const clients = await many(server, 6)
      const workers = await workersOf(server, clients)
      assert.strictEqual(new Set(workers).size, 2)
      await heard(clients, "one")
      process.kill(pids(server)[1]!, "SIGKILL")
      await begun(server, 3)
      const left = clients.filter((_, i) => workers[i] === 1)
      const late = await many(server, 4)
      assert.strictEqual(new Set(await workersOf(server, late)).size, 2)
      await heard([...left, ...late], "two")
      await heard([late[0]!, ...left, late[1]!], "three")
      process.kill(server.pid, "SIGTERM")
      for (const client of [...left, ...late]) client.conn.end()
      assert.strictEqual(await server.ended(patience), 0)
    }
  })

  it(
    "one page for all: lists, figures, metrics, closes and a drain, while workers hang and die",
    long(180_000),
    async () => {
      const server = await two("--admin 127.0.0.1:0 --drain 5s")
      const find = () => linesOf(server, "admin").map(({ address }) => address!)
      await until("the address of the page", () => find().length > 0, patience)
      const page = new URL(find()[0]!)
      const headers = { authorization: `Bearer ${page.searchParams.get("token")}`, "content-type": "application/json" }
      const text = async (path: string, body?: object): Promise<string> => {
        const options = body === undefined ? { headers } : { headers, method: "POST", body: JSON.stringify(body) }
        return await (await fetch(`${page.origin}${path}`, options)).text()
      }
      const ask = async (path: string, body?: object) => JSON.parse(await text(path, body)) as any

      const clients = await many(server, 6)
      for (const client of clients) await echo(client, "hello")
      await until("both workers", async () => (await ask("/api/figures")).workers.length === 2, patience)
      const workers = await workersOf(server, clients)
      const { connections, total } = await ask("/api/connections")
      assert.strictEqual(total, 6)
      const places = new Map(clients.map((client, i) => [addressOf(client), workers[i]]))
      for (const { remote, worker } of connections) assert.strictEqual(worker, places.get(remote))
      const ids = linesOf(server, "open").map((line) => (line as { readonly id?: number }).id)
      assert.deepStrictEqual(connections.map(({ id }: { readonly id: number }) => id).toSorted(), ids.toSorted())
      const figures = await ask("/api/figures")
      assert.deepStrictEqual([figures.connections.open, figures.totals.opened], [6, 6])
      assert.strictEqual((await ask("/api/servers"))[0].connections.open, 6)
      assert.match(await text("/metrics"), /^holdfast_connections\{state="open"\} 6$/m)
      const line = await run(process.execPath, [main, "top", page.href, "--json", "--count", "1"])
      assert.strictEqual(JSON.parse(line.stdout).figures.connections.open, 6, line.stderr)

      // one of each worker
      for (const number of [1, 2]) {
        const client = clients[workers.indexOf(number)]!
        const { id } = connections.find(({ remote }: { readonly remote: string }) => remote === addressOf(client))
        assert.strictEqual((await ask(`/api/connections/${id}`)).worker, number)
        assert.deepStrictEqual(await ask(`/api/connections/${id}/close`, {}), { closed: 1 })
        await client.ends()
        assert.strictEqual((await ask(`/api/connections/${id}`))._tag, "NotFound")
      }

      // a worker that hangs
      process.kill(pids(server)[1]!, "SIGSTOP")
      const silent = await ask("/api/connections")
      assert.deepStrictEqual([silent.total, silent.silent], [2, [2]])
      const states = (await ask("/api/figures")).workers.map(({ state }: { readonly state: string }) => state)
      assert.deepStrictEqual(states, ["answers", "silent"])
      assert.match(
        (await run(process.execPath, [main, "top", page.href, "--count", "1"])).stdout,
        /no answer from worker 2/
      )
      process.kill(pids(server)[1]!, "SIGCONT")
      await until("its answer", async () => (await ask("/api/connections")).total === 4, patience)

      // and one that dies
      await text("/metrics")
      process.kill(pids(server)[1]!, "SIGKILL")
      await begun(server, 3)
      await until("the new one", async () => (await ask("/api/figures")).workers.length === 2, patience)
      assert.strictEqual((await ask("/api/connections")).total, 2)
      assert.strictEqual((await ask("/api/figures")).totals.opened, 6)
      assert.match(await text("/metrics"), /^holdfast_connections_opened_total 6$/m)
      // the same address, also after a renewal
      process.kill(server.pid, "SIGHUP")
      await until("a renewal", () => linesOf(server, "renewed").length === 1, patience)
      await until("new ones", async () => (await ask("/api/figures")).totals.opened >= 6, patience)
      assert.strictEqual(find().length, 1)

      assert.isTrue((await ask("/api/drain", {})).begun)
      for (const { conn } of clients) conn.end()
      assert.strictEqual(await server.ended(patience), 0)
      await gone(server)
    }
  )

  it("connections that come while no worker runs wait for the next one", long(120_000), async () => {
    const server = await serve("--listen tcp://127.0.0.1:0 --log json --workers 1")
    await begun(server, 1)
    process.kill(pids(server)[0]!, "SIGKILL")
    await until("its end", () => linesOf(server, "worker-lost").length === 1, patience)
    const waiting = await many(server, 10)
    for (const client of waiting) await echo(client, "hello")
    assert.strictEqual(pids(server).length, 2)
  })

  it("SIGHUP renews all: no client is refused or reset, and those there are told to leave", long(180_000), async () => {
    const server = await two()
    const before = await many(server, 4)
    const clients = visitors(server.ports[0]!)
    for (const renewals of [1, 2]) {
      process.kill(server.pid, "SIGHUP")
      await until(
        () => `a renewal in\n${server.stderr}`,
        () => linesOf(server, "renewed").length === renewals,
        patience
      )
    }
    const visits = clients.visits
    await until("more visits", () => clients.visits > visits + 10, patience)
    assert.deepStrictEqual(await clients.end(), [])
    assert.strictEqual(pids(server).length, 6)
    await until("those of before to be told", () => before.every(({ ended }) => ended), patience)
    await until("the end of the old ones", () => pids(server).slice(0, 4).every((pid) => !isAlive(pid)), patience)
    process.kill(server.pid, "SIGTERM")
    assert.strictEqual(await server.ended(patience), 0)
  })

  it(
    "B90 after a renewal the drain of the policy file counts, and no more the one of the start",
    long(120_000),
    async () => {
      const path = Path.join(tempDir(), "limits.json")
      Fs.writeFileSync(path, JSON.stringify({ drain: "200ms" }))
      const server = await two(`--policy ${path}`)
      Fs.writeFileSync(path, JSON.stringify({ drain: "1m", stopGrace: "7s" }))
      process.kill(server.pid, "SIGHUP")
      await until("a renewal", () => linesOf(server, "renewed").length === 1, patience)
      const [client] = await many(server, 1)
      await echo(client!, "hello")
      process.kill(server.pid, "SIGTERM")
      // the parent killed it after the old drain and 5 s
      await client!.ends()
      client!.conn.destroy()
      assert.strictEqual(await server.ended(patience), 0)
      assert.notInclude(server.stderr, "killed")
    }
  )

  it("SIGTERM drains all, and ends with 0", long(120_000), async () => {
    const server = await two("--drain 10s")
    const clients = await many(server, 10)
    for (const client of clients) client.write("hello\n")
    process.kill(server.pid, "SIGTERM")
    await until("the end of all", () => clients.every(({ ended }) => ended), patience)
    // what was received is answered
    for (const client of clients) {
      assert.include(["", "hello\n"], client.text)
      client.conn.destroy()
    }
    assert.strictEqual(await server.ended(patience), 0)
    await gone(server)
  })

  it("a signal to the whole group, as a terminal and systemd send it, is one", long(120_000), async () => {
    const server = await two("--drain 10s")
    const [client] = await many(server, 1)
    await echo(client!, "hello")
    for (const pid of [...pids(server), server.pid]) process.kill(pid, "SIGTERM")
    await client!.ends()
    client!.conn.destroy()
    assert.strictEqual(await server.ended(patience), 0)
    await gone(server)
  })

  it("a drain that is cut short ends with 1, and a second signal ends all at once", long(120_000), async () => {
    const big = "x".repeat(24 * 1024 * 1024) + "\n"
    const roomy = "--max-frame 32MiB --outbox-bytes 64MiB --inbox-bytes 64MiB --ping-every 1h --write-stall 0"
    for (const [drain, code] of [["300ms", 1], ["60s", 143]] as const) {
      const server = await two(`${roomy} --drain ${drain}`)
      const [client] = await many(server, 1)
      client!.conn.once("data", () => client!.conn.pause())
      client!.write(big)
      await until("the beginning of an answer", () => client!.bytes > 0, patience)
      process.kill(server.pid, "SIGTERM")
      if (code === 143) {
        await new Promise((resolve) => setTimeout(resolve, 500))
        assert.isUndefined(server.exit)
        process.kill(server.pid, "SIGTERM")
      }
      assert.strictEqual(await server.ended(patience), code)
      await gone(server)
    }
  })

  it("the parent is killed: no worker is left", long(120_000), async () => {
    const server = await two()
    const [client] = await many(server, 1)
    await echo(client!, "hello")
    process.kill(server.pid, "SIGKILL")
    // told, and not cut
    await client!.ends()
    await gone(server)
    // nothing holds the port
    const next = await serve(`--listen tcp://127.0.0.1:${server.ports[0]} --log json`)
    assert.strictEqual(next.ports[0], server.ports[0])
    await echo(await connect(next.ports[0]!), "again")
  })

  it("a worker that cannot start says why, once", long(120_000), async () => {
    const port = await freePort()
    const taken = Net.createServer().listen(port, "127.0.0.1")
    onTestFinished(() => void taken.close())
    const flags = `--listen tcp://127.0.0.1:0 --listen tcp://127.0.0.1:${port} --workers 2 --log json --no-admin`
    const { code, stderr, stdout } = await run(process.execPath, [main, "serve", ...words(flags)])
    assert.strictEqual(code, 1)
    assert.strictEqual(stdout, "")
    const told = stderr.split("\n").filter((line) => line !== "" && !line.includes("\"event\":\"workers\""))
    assert.strictEqual(told.length, 1, stderr)
    assert.match(told[0]!, new RegExp(`^holdfast: --listen: .*${port}.*in use`))
  })
})
