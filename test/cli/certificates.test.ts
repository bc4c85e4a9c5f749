/** What the command says of certificates that one end does not accept. */
import { assert, describe, it } from "vitest"
import { authority } from "../node/fixtures/authority.ts"
import { main, run, serve, tempDir } from "./support/kit.ts"

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
})
