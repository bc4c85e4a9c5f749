/** What the command says of certificates that one end does not accept. */
import * as Fs from "node:fs"
import * as Tls from "node:tls"
import { assert, describe, it, onTestFinished } from "vitest"
import { authority } from "../node/fixtures/authority.ts"
import { connect, main, makeCertificate, run, serve, tempDir, until } from "./support/kit.ts"

const cli = (input: string, ...args: ReadonlyArray<string>) => run("node", [main, ...args], { input })

describe("certificates", () => {
  it("a client that the server refuses was never connected, and delivered nothing", async () => {
    const dir = tempDir()
    const ours = authority(dir, "ours")
    const server = ours.sign("server", "DNS:localhost,IP:127.0.0.1")
    const good = ours.sign("good", "DNS:client")
    const bad = authority(dir, "theirs").sign("bad", "DNS:client")
    const tls = `--cert ${server.certFile} --key ${server.keyFile} --ca ${ours.certFile}`
    const { urls } = await serve(`--log json ${tls} --listen tls://127.0.0.1:0 --listen wss://127.0.0.1:0/`)
    const as = ({ certFile, keyFile }: typeof good) => ["--ca", ours.certFile, "--cert", certFile, "--key", keyFile]
    for (const url of urls) {
      const welcome = await cli("hi\n", "connect", url, ...as(good), "--wait", "300ms")
      assert.deepStrictEqual([welcome.code, welcome.stdout], [0, "hi\n"], welcome.stderr)
      assert.match(welcome.stderr, /^waiting for the server's answer\nconnected /)
      const refused = await cli("hi\n", "connect", url, ...as(bad))
      assert.deepStrictEqual([refused.code, refused.stdout], [1, ""], refused.stderr)
      assert.match(
        refused.stderr,
        /^waiting for the server's answer\nholdfast: cannot connect to [^\n]*does not accept our certificate[^\n]*; 1 line of the input was not sent\n$/
      )
      const none = await cli("hi\n", "connect", url, "--ca", ours.certFile)
      assert.strictEqual(none.code, 1, none.stderr)
      assert.match(none.stderr, /cannot connect to [^\n]*give one with --cert and --key[^\n]*; 1 line of the input/)
      assert.notMatch(none.stderr, /^connected/m)
    }
    const probed = await cli("", "probe", urls[0]!, ...as(bad))
    assert.strictEqual(probed.code, 1, probed.stderr)
    assert.match(
      probed.stderr,
      /^waiting for the server's answer\nholdfast: cannot reach [^\n]*does not accept our cert/
    )
  })

  it("connect gives up on a server that ends each connection without a word when it was shown our certificate", async () => {
    const dir = tempDir()
    const ours = authority(dir, "ours")
    const bad = authority(dir, "theirs").sign("bad", "DNS:client")
    const { cert, key } = ours.sign("server", "DNS:localhost,IP:127.0.0.1")
    const server = Tls.createServer({ cert, key, ca: ours.cert, requestCert: true })
    onTestFinished(() => void server.close())
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as { readonly port: number }
    const as = ["--ca", ours.certFile, "--cert", bad.certFile, "--key", bad.keyFile]
    const url = `tls://127.0.0.1:${port}`
    const { code, stderr } = await cli("hi\n", "connect", url, ...as, "--retry", "forever", "--retry-base", "10ms")
    assert.strictEqual(code, 1, stderr)
    assert.match(stderr, /\nholdfast: [^\n]*does not accept our certificate[^\n]*; 1 line of the input was not sent\n$/)
    assert.notMatch(stderr, /^connected/m)
  })

  it("a client that does not speak TLS: what OpenSSL says of it, without a line of its source, and what to do", async () => {
    const { cert, key } = makeCertificate(tempDir())
    const server = await serve(`--log json --cert ${cert} --key ${key} --listen tls://127.0.0.1:0`)
    for (
      const [text, says] of [["GET / HTTP/1.1\r\n\r\n", "http request"], ["hello\r\n", "wrong version number"]] as const
    ) {
      const client = await connect(server.ports[0]!)
      client.write(text)
      await server.logged({ event: "refused", reason: "HandshakeFailed", detail: `the handshake failed: ${says}` })
      client.conn.destroy()
    }
    for (const { message } of server.logs().filter(({ event }) => event === "refused")) {
      assert.match(String(message), /the client does not speak TLS/)
    }
  })

  it("SIGHUP renews those of serve, and drops no connection", async () => {
    const dir = tempDir()
    const ours = authority(dir, "ours")
    const one = ours.sign("one", "DNS:localhost,IP:127.0.0.1")
    const { certFile, keyFile } = ours.sign("two", "DNS:localhost,IP:127.0.0.1")
    const server = await serve(
      `--log json --cert ${one.certFile} --key ${one.keyFile} --listen tls://127.0.0.1:0`
    )
    const dial = () => Tls.connect({ port: server.ports[0]!, host: "127.0.0.1", ca: ours.cert })
    const before = dial()
    let heard = ""
    before.on("data", (chunk) => {
      heard += String(chunk)
    })
    await until("a connection", () => before.authorized)
    Fs.copyFileSync(certFile, one.certFile)
    Fs.copyFileSync(keyFile, one.keyFile)
    server.child.kill("SIGHUP")
    await until("the renewal", () => server.stderr.includes("the certificates are renewed"))
    const after = dial()
    await until("another connection", () => after.authorized)
    assert.strictEqual(after.getPeerCertificate().subject.CN, "two")
    before.write("alive\n")
    await until("the answer", () => heard === "alive\n")
    for (const conn of [before, after]) conn.destroy()
  })
})
