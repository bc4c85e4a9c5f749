/** Asks before connections are closed, and for what reason. */
import { useState } from "preact/hooks"
import { count } from "../../node/internal/admin/shown/format.ts"
import { useApp } from "./context.ts"
import { Confirm } from "./dialog.tsx"

export const Closing = ({ action, body = {}, children, path, said, stop, title }: {
  readonly title: string
  readonly action: string
  /** What is asked, and with what beside the reason. */
  readonly path: string
  readonly body?: object
  readonly children?: string
  readonly said: (closed: number) => string
  readonly stop: () => void
}) => {
  const { api, say } = useApp()
  const [reason, setReason] = useState("")
  const [isTold, setTold] = useState(false)
  const run = async (): Promise<void> => {
    const { closed } = await api.post<{ readonly closed: number }>(path, {
      ...body,
      ...(reason.trim() === "" ? {} : { reason: reason.trim() }),
      ...(isTold ? { code: 1000 } : {})
    })
    say(said(closed))
  }
  return (
    <Confirm title={title} action={action} run={run} stop={stop}>
      <p>{children} What was accepted is sent first. The peer may come back.</p>
      <label class="field">
        Reason, for logs and the history
        <input
          type="text"
          maxLength={120}
          value={reason}
          onInput={({ currentTarget }) => setReason(currentTarget.value)}
        />
      </label>
      <label class="choice">
        <input type="checkbox" checked={isTold} onChange={({ currentTarget }) => setTold(currentTarget.checked)} />
        Tell the peer the reason too
      </label>
    </Confirm>
  )
}

/** Those that match a filter when it is confirmed; `total` did when it was asked. */
export const ClosingMany = ({ stop, total, where }: {
  readonly where: Readonly<Record<string, string>>
  readonly total: number
  readonly stop: () => void
}) => {
  const isAll = Object.keys(where).length === 0
  return (
    <Closing
      title={`Close ${isAll ? "all " : ""}${count(total)} connection${total === 1 ? "" : "s"}?`}
      action="Close them"
      path="/api/connections/close"
      body={{ where }}
      said={(closed) => `${count(closed)} connection${closed === 1 ? " is" : "s are"} asked to close`}
      stop={stop}
    >
      {isAll ? "All that are open now are closed." : "Those that match the filter now are closed."}
    </Closing>
  )
}
