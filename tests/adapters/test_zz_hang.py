import asyncio, uvloop, os, time, sys
from tests.adapters.test_ledger import *
from tests.adapters.test_ledger import test_a_session_cut_again_and_again_loses_nothing_and_charges_nobody_twice as real
import tests.adapters.test_ledger as tl
W=[]
oi=LedgerWriter.__init__
def init(self,*a,**k): oi(self,*a,**k); W.append(self)
async def stop(self):
    self.stopped=True
    done,pending=await asyncio.wait(self.tasks,timeout=5)
    if pending:
        w=W[-1]
        print("HANG",len(done),len(pending),dict(busy=w._busy,waiting=len(w._waiting),sent=len(w._sent),halves=len(w._halves),conn=w._connection,sock=w._socket,wd=w._watchdog,rec=w._reconnecting))
        with connect(self.books.url) as k:
            print(k.execute("select pid,state,wait_event_type,wait_event,left(query,40) from pg_stat_activity where datname=current_database()").fetchall())
        if w._connection:
            p=w._connection.pgconn; print(p.status,p.transaction_status,p.is_busy(),p.socket,os.readlink(f"/proc/self/fd/{w._socket}"))
            import select
            print("poll", select.select([w._socket],[w._socket],[],0))
            ep=[f for f in os.listdir("/proc/self/fd") if "eventpoll" in os.readlink(f"/proc/self/fd/{f}")]
            for e in ep: print(open(f"/proc/self/fdinfo/{e}").read())
        for t in list(pending)[:3]: t.print_stack(file=sys.stdout)
        os._exit(1)
Load.stop=stop; LedgerWriter.__init__=init
def test_zz(books): 
    for i in range(3):
        real(books) if i==0 else None
