/** Stopping the program without a loss: its start, and how far it is. */
import { useRef, useState } from "preact/hooks"
import type { Drain as Draining, Server } from "../../node/internal/admin/schemas.ts"
import { count } from "../../node/internal/admin/shown/format.ts"
import { Bar, Empty, Problem } from "../parts/bits.tsx"
import { useApp, usePoll } from "../parts/context.ts"
import { Confirm } from "../parts/dialog.tsx"

const Progress = ({ most, server }: { readonly server: Server; readonly most: number }) => {
  const { connections: { closing, draining, open }, left, name, phase } = server
  return (
    <li class="card">
      <h3>
        {name} <span class="state">{phase}</span>
      </h3>
      {phase === "stopping" || phase === "stopped"
        ? (
          <>
            <progress aria-label={`${name}: gone`} max={Math.max(1, most)} value={most - left} />
            <p class="number">{count(left)} of {count(most)} left</p>
          </>
        )
        : <Bar share={1} tone="good" />}
      <p class="dim">{count(open)} open, {count(draining)} draining, {count(closing)} closing</p>
    </li>
  )
}

export const Drain = () => {
  const { api, say } = useApp()
  const { data, error, refresh } = usePoll<Draining>("/api/drain", 500)
  const [isAsked, setAsked] = useState(false)
  const most = useRef(new Map<string, number>())
  for (const { left, name } of data?.servers ?? []) most.current.set(name, Math.max(left, most.current.get(name) ?? 0))
  const run = async (): Promise<void> => {
    await api.post("/api/drain", {})
    say("The drain has begun")
    refresh()
  }
  return (
    <section class="view" aria-labelledby="drain-title">
      <div class="tools">
        <h2 id="drain-title" tabIndex={-1}>Drain</h2>
        {data?.begun === true ? <span class="state draining">begun</span> : undefined}
        {data?.possible === true && !data.begun
          ? <button type="button" class="danger push" onClick={() => setAsked(true)}>Drain and stop…</button>
          : undefined}
      </div>
      <p>
        A drain stops the program: no new connection is accepted, those that are open are asked to leave, and what was
        accepted is answered and sent.
      </p>
      {data?.possible === false ? <Empty>It cannot be begun here: the program gives Admin no drain.</Empty> : undefined}
      <Problem error={error} />
      {data?.servers.length === 0 ? <Empty>This program shows no server.</Empty> : undefined}
      <ul class="cards">
        {data?.servers.map((server) => (
          <Progress key={server.name} server={server} most={most.current.get(server.name) ?? 0} />
        ))}
      </ul>
      {isAsked
        ? (
          <Confirm title="Drain and stop the program?" action="Drain and stop" run={run} stop={() => setAsked(false)}>
            <p>
              {count(data?.servers.reduce((sum, { left }) => sum + left, 0) ?? 0)}{" "}
              connections are asked to leave. The program ends, and this page with it. It cannot be taken back.
            </p>
          </Confirm>
        )
        : undefined}
    </section>
  )
}
