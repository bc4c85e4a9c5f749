/** nginx and HAProxy in front of the gateway, with the configuration files that are beside this one. */
import { Effect } from "effect"
import * as Fs from "node:fs"
import { CannotRun } from "../support/run.ts"
import { installed, started, temporary } from "../support/servers.ts"

/** The ports of both files: those of the gateway (TCP, WebSocket), of nginx, of HAProxy. */
export const first = 7150
export type Ports = readonly [number, number, number, number, number, number]

/** A file with other ports, in a folder of its own. */
const configured = Effect.fnUntraced(function*(name: string, ports: Ports) {
  const folder = yield* temporary
  const text = Fs.readFileSync(new URL(name, import.meta.url), "utf8")
  const file = `${folder}/${name}`
  Fs.writeFileSync(file, text.replaceAll(/\b715(\d)\b/g, (_, digit) => String(ports[Number(digit)])))
  return { file, folder }
})

export const nginx = Effect.fnUntraced(function*(ports: Ports) {
  const path = yield* installed("nginx", "nginx libnginx-mod-stream")
  if (!Fs.existsSync("/usr/lib/nginx/modules/ngx_stream_module.so")) {
    return yield* new CannotRun({
      message: "nginx lacks its stream module. Debian, Ubuntu: apt install libnginx-mod-stream"
    })
  }
  const { file, folder } = yield* configured("nginx.conf", ports)
  yield* started(path, ["-p", folder, "-c", file, "-e", "stderr"], [ports[2], ports[3]])
})

export const haproxy = Effect.fnUntraced(function*(ports: Ports) {
  const path = yield* installed("haproxy", "haproxy")
  const { file } = yield* configured("haproxy.cfg", ports)
  yield* started(path, ["-db", "-f", file], [ports[4], ports[5]])
})
