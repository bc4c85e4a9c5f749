/** Changes one limit of a live connection. */
import { useState } from "preact/hooks"
import { useApp } from "./context.ts"
import { Confirm } from "./dialog.tsx"

// a connection takes them when it opens
const fixed: ReadonlyArray<string> = ["open", "maxFrame"]

const textOf = (value: unknown): string => typeof value === "string" ? value : JSON.stringify(value)

/** Numbers and flags as they are; what is no JSON is a text, such as a duration. */
const valueOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

export const Patching = ({ id, policy, stop }: {
  readonly id: number
  readonly policy: Readonly<Record<string, unknown>>
  readonly stop: () => void
}) => {
  const { api, say } = useApp()
  const names = Object.keys(policy).filter((name) => !fixed.includes(name)).toSorted()
  const [name, setName] = useState(names.includes("silence") ? "silence" : names[0] ?? "")
  const [text, setText] = useState(textOf(policy[name]))
  const run = async (): Promise<void> => {
    await api.patch(`/api/connections/${id}/policy`, { [name]: valueOf(text.trim()) })
    say(`${name} of connection ${id} is ${text.trim()}`)
  }
  return (
    <Confirm title={`Change a limit of connection ${id}`} action="Change it" run={run} stop={stop}>
      <p>It counts at once, for this connection alone. Durations have a unit: 10s, 500ms, 2m; 0 is off.</p>
      <div class="patch">
        <label class="field">
          Limit
          <select
            value={name}
            onChange={({ currentTarget: { value } }) => {
              setName(value)
              setText(textOf(policy[value]))
            }}
          >
            {names.map((name) => <option key={name} value={name}>{name}</option>)}
          </select>
        </label>
        <label class="field">
          New value
          <input
            type="text"
            maxLength={60}
            required
            value={text}
            onInput={({ currentTarget }) => setText(currentTarget.value)}
          />
        </label>
      </div>
    </Confirm>
  )
}
