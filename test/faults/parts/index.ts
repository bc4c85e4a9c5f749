/** Every part, in the order of the table. */
import type { Part } from "../fault.ts"
import { crash } from "./crash.ts"
import { drains } from "./drain.ts"
import { floods } from "./floods.ts"
import { links } from "./links.ts"
import { nat } from "./nat.ts"
import { outages } from "./outage.ts"
import { readers } from "./readers.ts"
import { scarce } from "./scarce.ts"
import { slowLoris } from "./slowLoris.ts"
import { stopped } from "./stopped.ts"

export const parts: ReadonlyArray<Part> = [
  ...links,
  ...nat,
  ...outages,
  ...stopped,
  crash,
  ...drains,
  ...readers,
  ...scarce,
  ...floods,
  ...slowLoris
]
