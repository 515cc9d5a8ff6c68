"""What to try once the demo runs. Each command begins at the margin, so that it pastes as it is."""

from __future__ import annotations

import sys
from pathlib import Path

from demo.buckets import BUCKETS
from demo.layout import Layout

_TEXT = """\
Ready.

  MCP endpoint   {url}
  token          {token}   (subject ada, role reader, {count} buckets, 12 hours)
  metrics        http://127.0.0.1:{metrics_port}/metrics
  logs           {folder}/*.log

# 1. With curl: initialize without a token, then call a tool with one.

SESSION=$(curl --noproxy '*' -si {url} -H 'Content-Type: application/json' \\
  -H 'Accept: application/json, text/event-stream' \\
  -d '{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"2025-11-25",\
"capabilities":{{}},"clientInfo":{{"name":"curl","version":"1"}}}}}}' \\
  | tr -d '\\r' | sed -n 's/^mcp-session-id: //ip')
curl --noproxy '*' -s {url} -H "Authorization: Bearer $(cat {token})" \\
  -H "Mcp-Session-Id: $SESSION" \\
  -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\
  -d '{{"jsonrpc":"2.0","id":2,"method":"tools/call",\
"params":{{"name":"bucket_objects_list","arguments":{{"bucket":"s3://{bucket}","max_keys":2}}}}}}'

# 2. The same session as another role, which sees another bucket: repeat the second command of 1.

{python} -m authsvc token --config {config} --sub ada --role analyst --bucket {bucket} > {token}

# 3. Sessions, as an operator sees them.

{python} -m authsvc sessions list --target 127.0.0.1:{authsvc_port}

# 4. With the official Python client.

{python} - <<'PYTHON'
import anyio, httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

async def main():
    headers = {{"Authorization": "Bearer " + open("{token}").read().strip()}}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        async with Client(streamable_http_client("{url}", http_client=http)) as client:
            result = await client.call_tool("discover_buckets", {{}})
            print(len(result.structured_content["buckets"]), "buckets")

anyio.run(main)
PYTHON

# 5. With MCP Inspector (Node 22).

npx -y @modelcontextprotocol/inspector@latest --cli {url} --transport http \\
  --header "Authorization: Bearer $(cat {token})" --method tools/call \\
  --tool-name bucket_objects_list --tool-arg bucket=s3://{bucket}

Ctrl-C stops all of it.
"""


def what_to_try(layout: Layout) -> str:
    """The commands, with the addresses and paths of this run."""
    # Relative if possible: the demo usually runs in the project's folder.
    executable = Path(sys.executable)
    is_below = executable.is_relative_to(Path.cwd())
    return _TEXT.format(
        url=layout.resource,
        token=layout.token,
        count=len(BUCKETS),
        bucket=BUCKETS[0],
        metrics_port=layout.metrics_port,
        folder=layout.folder,
        config=layout.authsvc_config,
        authsvc_port=layout.authsvc_port,
        python=executable.relative_to(Path.cwd()) if is_below else executable,
    )
