// Preact bound to htm, so that modules need one import.

import { h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact-hooks.js";
export { render };
export const html = htm.bind(h);
